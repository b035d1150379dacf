"""End-to-end flows: paths and settings in, a result record out. No click, no print."""
