//! Hints that may be lost: retry times, waiting messages, rates, callouts.
