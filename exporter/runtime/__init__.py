"""When things happen: polls on a schedule, events that make them come sooner, signals."""
