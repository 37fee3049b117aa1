"""OANIX: a virtual file system server in the manner of Plan 9."""
