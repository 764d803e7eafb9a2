//! Every target as a test: a fixed number of inputs under `cargo test`, libFuzzer under cargo-bolero.

/// A test for each target, by its name.
macro_rules! targets {
    ($($name:ident: $target:expr;)+) => {
        $(
            #[test]
            fn $name() {
                assert_eq!(stringify!($name), $target.name);
                #[cfg(fuzzing)]
                bolero::check!().for_each(|input: &[u8]| {
                    ($target.decode)(input);
                });
                #[cfg(not(fuzzing))]
                stentor_fuzz::run(&$target, stentor_fuzz::Budget::from_env());
            }
        )+

        #[test]
        #[cfg(not(fuzzing))]
        fn every_target_is_a_test() {
            let tests = [$(stringify!($name)),+];
            let targets: Vec<_> = stentor_fuzz::targets::ALL.iter().map(|target| target.name).collect();
            assert_eq!(targets, tests);
        }
    };
}

targets! {
    answers: stentor_fuzz::targets::ANSWERS;
    config_file: stentor_fuzz::targets::CONFIG_FILE;
    config_flags: stentor_fuzz::targets::CONFIG_FLAGS;
    connection: stentor_fuzz::targets::CONNECTION;
    data_format: stentor_fuzz::targets::DATA_FORMAT;
    error_text: stentor_fuzz::targets::ERROR_TEXT;
    history_record: stentor_fuzz::targets::HISTORY_RECORD;
    index_checkpoint: stentor_fuzz::targets::INDEX_CHECKPOINT;
    key_range: stentor_fuzz::targets::KEY_RANGE;
    log_entry: stentor_fuzz::targets::LOG_ENTRY;
    log_segment: stentor_fuzz::targets::LOG_SEGMENT;
    snapshot: stentor_fuzz::targets::SNAPSHOT;
    snapshot_file: stentor_fuzz::targets::SNAPSHOT_FILE;
    stored_records: stentor_fuzz::targets::STORED_RECORDS;
    torn_log: stentor_fuzz::targets::TORN_LOG;
}
