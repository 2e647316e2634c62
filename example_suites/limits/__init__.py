"""Where a model breaks: the ladders as a suite, and scripted models to try it on."""
