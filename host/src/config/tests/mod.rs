//! Whole files: what good ones mean, and what is said of bad ones.

mod files;
mod meaning;
