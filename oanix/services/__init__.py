"""The file services, one module or package each; they meet only in a namespace."""
