//! The time of a line, without a calendar library.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2026-01-02T15:04:05.999999Z`, always with six digits.
pub(super) fn now() -> String {
    format(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn format(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let micros = since_epoch.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// The Gregorian date that many days after 1970-01-01.
///
/// Years begin in March here, so that the leap day is a year's last; eras are the 400 years after which the
/// calendar repeats.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    // 0000-03-01 lies that far before 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have 31, 30, 31, 30, 31 days, again and again: 153 in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, 999_999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, 0, "2000-03-01T00:00:00.000000Z"),
            (1_767_366_245, 999_999_000, "2026-01-02T15:04:05.999999Z"),
            (4_107_542_400, 1_000, "2100-03-01T00:00:00.000001Z"),
        ] {
            assert_eq!(format(Duration::new(seconds, nanos)), text);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = date(0);
        for day in 1..150_000 {
            let next = date(day);
            let follows = match last {
                (year, 12, 31) => next == (year + 1, 1, 1),
                (year, month, _) if next.2 == 1 => next == (year, month + 1, 1) && last.2 >= 28,
                (year, month, day) => next == (year, month, day + 1) && next.2 <= 31,
            };
            assert!(follows, "{last:?} then {next:?}");
            last = next;
        }
    }
}
