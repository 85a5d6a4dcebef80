mod barrier;
mod loom;
