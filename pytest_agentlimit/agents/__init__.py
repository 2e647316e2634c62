"""The agent loop, its tools, the workspace and the sandbox."""
