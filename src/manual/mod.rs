//! The manual: code map, privileges, differences from Exim, and what excludes classes of past bugs.
