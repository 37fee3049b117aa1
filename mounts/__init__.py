"""The doors through which a namespace is reached from outside its process."""
