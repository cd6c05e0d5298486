"""Unmodified SDKs that call a cluster from a pod with nothing but a service account, and from outside with a key."""
