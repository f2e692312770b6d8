//! The few calls that go upward through the layers, each a named trait.
