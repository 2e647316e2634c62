"""External agent programs: started in a fresh home, watched on the wire, judged by what they did.

`spec` and `presets` say how a program is started, `process` starts it and ends it, `wire` reads
what it asked the model, `snapshot` what it changed, and `verdict` compares the three. The modules
of `blackout` put an agent of ours behind a bridge whose primary fails.
"""
