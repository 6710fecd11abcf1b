"""End-to-end tests on real parts: a control plane, a node with a real kernel, the main job from end to
end."""
