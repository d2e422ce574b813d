"""The parts a lab is built from: one module for each kind of server."""
