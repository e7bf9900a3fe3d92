//! The changes of a sandbox's state, and the clock that makes some of them by itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::clock;
use super::docker;
use super::edge;
use super::model::{Sandbox, State};
use super::world::{Order, World};
use crate::container;
use crate::container::Container;

/// How long sandboxes that are coming up hold the server's end up.
const REMOVAL_MAX: Duration = Duration::from_secs(5);

/// Brings a new sandbox up, from whichever state its creation begins in.
pub(crate) async fn create(world: Arc<World>, id: String) {
    loop {
        let Some(sandbox) = world.find_by_id(&id) else { return };
        tokio::time::sleep(world.options.step).await;
        let next = match sandbox.state {
            State::PendingBuild => State::BuildingSnapshot,
            State::BuildingSnapshot => match build(&world, &sandbox).await {
                Ok(()) => State::Creating,
                Err(reason) => return fail(&world, &id, State::BuildFailed, reason, false),
            },
            State::PullingSnapshot => State::Creating,
            _ => break,
        };
        world.change(&id, |sandbox| sandbox.set_state(next));
    }
    if let Some(extra) = world.quirks.create_delay() {
        tokio::time::sleep(extra).await;
    }
    launch(&world, &id).await;
}

/// Looks whether there is what a build would have made.
async fn build(world: &World, sandbox: &Sandbox) -> Result<(), String> {
    if let Some(reason) = world.quirks.build_failure() {
        return Err(reason);
    }
    if docker::has_image(&sandbox.image).await {
        return Ok(());
    }
    Err(format!("pull access denied for {}, repository does not exist", sandbox.image))
}

/// Starts a sandbox that is stopped or archived; its state is already `starting` or `restoring`.
pub(crate) async fn start(world: Arc<World>, id: String) {
    tokio::time::sleep(world.options.step).await;
    launch(&world, &id).await;
}

/// Makes the sandbox's processes run, and the sandbox `started`.
async fn launch(world: &Arc<World>, id: &str) {
    let Some(sandbox) = world.find_by_id(id) else { return };
    if let Some((reason, recoverable)) = world.quirks.create_failure() {
        return fail(world, id, State::Error, reason, recoverable);
    }
    match run(world, &sandbox).await {
        Ok(container) => {
            world.change(id, |sandbox| {
                sandbox.container = Some(container);
                sandbox.token = clock::random_hex::<16>();
                sandbox.toolbox_failures = world.quirks.toolbox_failures();
                sandbox.set_state(State::Started);
            });
        }
        Err(reason) => fail(world, id, State::Error, reason, false),
    }
}

async fn run(world: &World, sandbox: &Sandbox) -> Result<Arc<Container>, String> {
    if let Some(container) = &sandbox.container {
        container.boot().await.map_err(|error| error.to_string())?;
        return Ok(Arc::clone(container));
    }
    let spec = container::Spec {
        program: &world.options.program,
        image: &sandbox.image,
        kind: "daytona",
        config: serde_json::json!({"id": sandbox.id}),
        env: environment(sandbox),
    };
    let started = Container::start(spec).await.map_err(|error| error.to_string())?;
    Ok(Arc::new(started))
}

fn environment(sandbox: &Sandbox) -> HashMap<String, String> {
    let own = [("DAYTONA_SANDBOX_ID", &sandbox.id), ("DAYTONA_SANDBOX_USER", &sandbox.user)];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value.clone()));
    let given = sandbox.env.iter().map(|(name, value)| (name.clone(), value.clone()));
    own.chain(given).collect()
}

fn fail(world: &World, id: &str, state: State, reason: String, recoverable: bool) {
    world.change(id, |sandbox| {
        sandbox.error_reason = Some(reason);
        sandbox.recoverable = recoverable;
        sandbox.set_state(state);
    });
}

/// Stops a sandbox whose state is already `stopping`. An ephemeral one is destroyed with that.
///
/// The daemon is the first process, and the only one that is told of an orderly stop: what it runs
/// is killed either way, so nobody can tell a forced stop from another.
pub(crate) async fn stop(world: Arc<World>, id: String) {
    tokio::time::sleep(world.options.step).await;
    let Some(sandbox) = world.find_by_id(&id) else { return };
    if let Some(container) = &sandbox.container
        && let Err(error) = container.stop().await
    {
        return fail(&world, &id, State::Error, error.to_string(), true);
    }
    if sandbox.intervals.delete == 0 {
        world.change(&id, |sandbox| sandbox.set_state(State::Destroying));
        destroy(world, id).await;
    } else {
        world.change(&id, |sandbox| sandbox.set_state(State::Stopped));
    }
}

/// Archives a sandbox whose state is already `archiving`. Its container is kept: nobody can tell.
pub(crate) async fn archive(world: Arc<World>, id: String) {
    tokio::time::sleep(world.options.step).await;
    world.change(&id, |sandbox| {
        if sandbox.state == State::Archiving {
            sandbox.set_state(State::Archived);
        }
    });
}

/// Removes a sandbox whose state is already `destroying`.
pub(crate) async fn destroy(world: Arc<World>, id: String) {
    tokio::time::sleep(world.options.step).await;
    let Some(sandbox) = world.find_by_id(&id) else { return };
    if let Some(container) = &sandbox.container {
        // What is left of it goes when the server ends.
        let _ = container.remove().await;
    }
    world.change(&id, |sandbox| {
        sandbox.container = None;
        sandbox.set_state(State::Destroyed);
    });
}

/// Puts a sandbox that is in a certain state into another one, and says whether it did.
pub(crate) fn begin(
    world: &World,
    id: &str,
    from: &[State],
    to: State,
    desired: &'static str,
) -> bool {
    world
        .change(id, |sandbox| {
            let may = from.contains(&sandbox.state);
            if may {
                sandbox.desired = desired;
                sandbox.set_state(to);
            }
            may
        })
        .unwrap_or(false)
}

/// Looks at all clocks for as long as the server is there: six times a minute, as the real one
/// does each 10 s.
pub(crate) async fn watch_clocks(world: Arc<World>) {
    loop {
        tokio::time::sleep(world.options.minute / 6).await;
        for sandbox in world.all() {
            look_at_clocks(&world, &sandbox);
        }
    }
}

fn look_at_clocks(world: &Arc<World>, sandbox: &Sandbox) {
    let (id, intervals) = (&sandbox.id, sandbox.intervals);
    let past = |since: Instant, minutes: i64| {
        let minutes = u32::try_from(minutes).unwrap_or(0);
        minutes > 0 && since.elapsed() >= world.options.minute * minutes
    };
    let settled = [State::Started, State::Stopped, State::Archived, State::Error];
    let outlived = past(sandbox.created_at, intervals.ttl)
        || sandbox.state == State::Stopped && past(sandbox.state_since, intervals.delete);
    if outlived && begin(world, id, &settled, State::Destroying, "destroyed") {
        tokio::spawn(destroy(Arc::clone(world), id.clone()));
    } else if sandbox.state == State::Started
        && past(sandbox.active_at, intervals.stop)
        && begin(world, id, &[State::Started], State::Stopping, "stopped")
    {
        tokio::spawn(stop(Arc::clone(world), id.clone()));
    } else if sandbox.state == State::Stopped
        && past(sandbox.state_since, intervals.archive)
        && begin(world, id, &[State::Stopped], State::Archiving, "archived")
    {
        tokio::spawn(archive(Arc::clone(world), id.clone()));
    }
}

/// How often an open request counts as activity again: each 50 s of a 60 s minute.
pub(crate) fn activity_period(minute: Duration) -> Duration {
    (minute * 5 / 6).max(Duration::from_millis(10))
}

/// Does what a test orders behind the clients' backs, for as long as the server is there.
pub(crate) async fn obey(world: Arc<World>) {
    let mut orders = world.orders();
    let any = [State::Started, State::Stopped, State::Archived, State::Error];
    while let Some((id, order)) = orders.recv().await {
        match order {
            Order::Stop if begin(&world, &id, &any[..1], State::Stopping, "stopped") => {
                tokio::spawn(stop(Arc::clone(&world), id));
            }
            Order::Destroy if begin(&world, &id, &any, State::Destroying, "destroyed") => {
                tokio::spawn(destroy(Arc::clone(&world), id));
            }
            Order::KillDaemon => {
                if let Some(sandbox) = world.find_by_id(&id) {
                    edge::kill_daemon(&sandbox).await;
                }
            }
            Order::Stop | Order::Destroy => {}
        }
    }
}

/// Removes the containers of all sandboxes, also of those that are coming up.
pub(crate) async fn remove_all(world: &World) {
    let deadline = Instant::now() + REMOVAL_MAX;
    loop {
        let left = world.all();
        let containers = left.iter().filter_map(|sandbox| sandbox.container.clone());
        let removals: JoinSet<_> =
            containers.map(|container| async move { container.remove().await }).collect();
        removals.join_all().await;
        let launching =
            |sandbox: &Sandbox| sandbox.container.is_none() && sandbox.state.is_moving();
        if !left.iter().any(launching) || Instant::now() > deadline {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
