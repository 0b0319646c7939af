//! Workers and the key cache as a client meets them: started late, changed at run time, ended.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Client, Module, eventually, policy};

#[test]
fn workers_start_with_the_first_connection_and_follow_the_policy() {
    let module = Module::start();
    let (partition, path) = module.partition("web", policy());
    assert_eq!(partition.workers.count(), 0);
    let client = Client::open(&path);
    assert_eq!(partition.workers.count(), 2);
    let (public, private) = client.generate(true);
    for workers in [4, 1, 3] {
        let mut wanted = policy();
        wanted.workers = workers;
        wanted.weight = 50;
        partition.set_policy(wanted);
        for round in 0..50u8 {
            let (answer, signature) = client.sign(private, &[round; 32]);
            assert_eq!(answer.result, 0);
            assert_eq!(client.verify(public, &[round; 32], &signature), 0);
        }
        eventually("the wanted number of workers", || {
            partition.workers.count() == workers as usize
        });
    }
    let begin = std::time::Instant::now();
    module.engine.close_partition(&partition.id);
    assert_eq!(partition.workers.count(), 0);
    assert!(begin.elapsed().as_millis() < 500);
}

#[test]
fn weights_are_nice_values_of_the_workers() {
    let module = Module::start();
    let mut low = policy();
    low.weight = 50;
    let (_, path) = module.partition("low", low);
    let _client = Client::open(&path);
    let nice = |task: &std::path::Path| {
        let stat = std::fs::read_to_string(task.join("stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        fields.get(16)?.parse::<i32>().ok()
    };
    eventually("two workers with nice 3", || {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| nice(&task.unwrap().path()))
            .filter(|value| *value == 3)
            .count()
            >= 2
    });
}

/// The nice values of this process's workers whose name is that of the module's.
fn nice_values() -> Vec<i32> {
    let field = |task: &std::path::Path| {
        let stat = std::fs::read_to_string(task.join("stat")).ok()?;
        if !stat.contains("(casemate-work)") {
            return None;
        }
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        fields.get(16)?.parse::<i32>().ok()
    };
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(|task| field(&task.ok()?.path())).collect()
}

#[test]
fn helpers_give_way_while_a_second_partition_works_and_are_replaced_afterwards() {
    let module = Module::start();
    // Nice values that no other test's workers have: 1, and demoted 14.
    let mut heavier = policy();
    heavier.weight = 80;
    let (flooding, flooded) = module.partition("flooding", heavier);
    let (_, quiet) = module.partition("quiet", policy());
    let demoted = || nice_values().into_iter().filter(|nice| *nice == 14).count();
    let whole = || nice_values().into_iter().filter(|nice| *nice == 1).count();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let client = Client::open(&flooded);
                let (_, private) = client.generate(false);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(client.sign(private, &[7; 32]).0.result, 0);
                }
            });
        }
        eventually("a first worker and a helper of the same weight", || {
            whole() == 2 && demoted() == 0
        });
        let client = Client::open(&quiet);
        let (_, private) = client.generate(false);
        eventually("a demoted helper", || {
            assert_eq!(client.sign(private, &[7; 32]).0.result, 0);
            whole() == 1 && demoted() == 1
        });
        eventually("another one in its place", || {
            whole() == 2 && demoted() == 0
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(flooding.workers.count(), 2);
}

#[test]
fn a_thousand_token_keys_sign_after_a_restart_from_their_records() {
    let module = Module::start();
    let (partition, path) = module.partition("many", policy());
    let client = Client::open(&path);
    let keys: Vec<_> = (0..1200).map(|_| client.generate(true)).collect();
    let records: Vec<_> = module.store.lock().unwrap().values().cloned().collect();
    drop(client);
    let id = partition.id;
    module.engine.close_partition(&id);

    let engine = &module.engine;
    let secret = engine.new_partition_secret(id).unwrap();
    let wrong = engine.load_partition(id, "many", policy(), &secret, &records);
    assert!(wrong.is_err(), "records under another masking secret");

    let (partition, path) = module.reopened(&id, "many", &records);
    assert_eq!(partition.cache.parsed(), 0);
    let client = Client::open(&path);
    for round in 0..2u8 {
        for (public, private) in &keys {
            let (answer, signature) = client.sign(*private, &[round; 32]);
            assert_eq!(answer.result, 0);
            assert_eq!(client.verify(*public, &[round; 32], &signature), 0);
        }
        assert!(partition.cache.parsed() <= casemate_engine::cache::PARSED_MAX);
    }
}
