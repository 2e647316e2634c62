"""Work in a folder, judged by what is left there: for our own tool loop and for agent programs.

`test_harness.py` is the page to read; the other modules make its tasks and judge what became of
them.
"""
