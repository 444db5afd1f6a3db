"""The parts of tests/teacher_server.py: what it answers, in which wire formats, with which faults."""
