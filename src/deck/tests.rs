//! Keys and events in, screens out.
