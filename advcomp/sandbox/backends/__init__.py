"""The four sandboxes: bubblewrap, a container engine's, gVisor, and none."""
