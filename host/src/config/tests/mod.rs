//! Whole files: the meaning of good ones, and the problems of bad ones.

mod files;
mod meaning;
