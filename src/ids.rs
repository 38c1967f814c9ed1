//! Time-ordered identifiers.

use chrono::{DateTime, Utc};
use rand::Rng;
use uuid::Uuid;

/// Makes `UUIDv7` (RFC 9562) that never fall behind one another, also within a millisecond: histories are paged by id.
#[derive(Debug, Default)]
pub struct Ids {
    last: u128,
}

impl Ids {
    /// The next identifier for something that happens at `now`.
    pub fn next(&mut self, now: DateTime<Utc>, rng: &mut impl Rng) -> Uuid {
        let millis = u64::try_from(now.timestamp_millis()).unwrap_or(0);
        let mut random = [0_u8; 10];
        rng.fill_bytes(&mut random);
        let fresh = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().as_u128();
        // The lowest 62 bits are random: counting up within them keeps version and variant intact.
        self.last = if fresh > self.last { fresh } else { self.last + 1 };
        Uuid::from_u128(self.last)
    }
}

/// The milliseconds that a `UUIDv7` has room for: until the year 10889.
const LAST_MILLISECOND: u64 = (1 << 48) - 1;

/// The smallest `UUIDv7` of a moment: rows with a smaller id are older.
pub fn floor(at: DateTime<Utc>) -> Uuid {
    let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0).min(LAST_MILLISECOND);
    Uuid::from_u128(u128::from(millis) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn ids_of_one_millisecond_keep_their_order_and_version() {
        let now = crate::clock::now();
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        let mut ids = Ids::default();
        let made: Vec<Uuid> = (0..1000).map(|_| ids.next(now, &mut rng)).collect();
        assert!(made.is_sorted());
        assert!(made.iter().all(|id| id.get_version_num() == 7));
        assert!(made.iter().all(|id| *id > floor(now)));
    }

    #[test]
    fn moments_that_no_id_has_room_for_are_the_first_or_the_last() {
        let of = |seconds| floor(DateTime::from_timestamp(seconds, 0).unwrap());
        assert_eq!(of(-1), Uuid::nil());
        let years = [10_000_000_000, 253_402_300_800, 281_474_976_711, 400_000_000_000, 8_000_000_000_000];
        assert!(years.windows(2).all(|two| of(two[0]) <= of(two[1])));
        assert_eq!(of(400_000_000_000), of(8_000_000_000_000));
    }
}
