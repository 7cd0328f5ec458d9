"""`zoo benchmark`: networks, engines and peers timed in turns in one run, each in a process of its own."""
