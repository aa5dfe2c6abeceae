"""The server on localhost: a window on the sessions of this machine, and the dashboard it shows."""
