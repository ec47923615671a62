"""The only room that talks to the outside: an engine or a file in, an `Observation` out."""
