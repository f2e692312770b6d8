//! Values: lists, intervals, quoting, and text that remembers whether it came from outside.
