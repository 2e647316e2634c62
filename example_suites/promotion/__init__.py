"""The promotion protocol: what a local model has to show before it may take over an agent's work.

`test_promotion.py` is the page to read; the other modules make its tasks and judge the answers.
"""
