//! What benchmarks share.

pub mod arrivals;
pub mod asker;
pub mod chart;
pub mod load;
pub mod options;
pub mod processes;
pub mod report;
pub mod sink;
pub mod statistics;
