//! The documents of kgit's own endpoints.
