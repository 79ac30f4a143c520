//! Owns the short form of the chaos runs, and the proof that the checker catches broken feeds.
