"""Would this model carry an agent's work when the primary is down? Six faults and a control.

`test_blackout.py` is the page to read; `dark.py` puts the failing primary and the bridge in place.
"""
