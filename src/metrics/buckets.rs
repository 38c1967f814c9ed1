//! Where histograms are cut, in seconds.

/// From a query of half a millisecond to a command that waited for a lock.
pub(super) const COMMAND_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// `timestamp` has whole seconds, so finer ones would show nothing; the last ones show a daemon that was away.
pub(super) const LAG_SECONDS: &[f64] =
    &[0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0];
/// Around the 15 ms of the default costs, up to what an imported hash may cost.
pub(super) const HASH_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5];
/// From a mail server next door to one that was away for a day.
pub(super) const DELIVERY_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0,
    86_400.0,
];
