"""The main job from end to end on real parts, told as it happens: `python -m pytest e2e/story`."""
