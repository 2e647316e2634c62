"""The edge study: ten checks that tell whether a model can be trusted as an agent.

`test_edge_study.py` is the page to read; the other modules make its tasks and judge the answers.
"""
