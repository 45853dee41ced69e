//! What is written as bytes, one file for each kind.

mod s3;
