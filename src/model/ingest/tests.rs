//! Each mapping against a document of AWS's.
