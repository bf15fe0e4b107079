"""The base class of attacks, the problem they are given, and the one loop."""
