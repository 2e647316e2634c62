"""Suites that ship with pytest-agentlimit: run them as they are, or copy one and change it."""
