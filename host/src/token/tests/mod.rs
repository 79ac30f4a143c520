//! Tests of token verification from the outside.
