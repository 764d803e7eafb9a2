use stentor_client::raw::Client;
use stentor_proto::etcdserverpb::alarm_request::AlarmAction;
use stentor_proto::etcdserverpb::{AlarmRequest, AlarmResponse, AlarmType};

use crate::failure::{Failure, Result};
use crate::print::{Format, show};
use crate::session::Session;

/// Alarms: a full disk, a corrupt store
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the alarms
    List {
        #[arg(hide = true)]
        none: Vec<String>,
    },
    /// Disarm all alarms
    Disarm {
        #[arg(hide = true)]
        none: Vec<String>,
    },
}

/// All alarms there are.
pub(crate) async fn list(client: &Client) -> stentor_client::raw::Result<AlarmResponse> {
    let request = AlarmRequest { action: AlarmAction::Get.into(), ..Default::default() };
    client.maintenance().alarm(request).await
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        session.printer.refuse(Format::Table)?;
        let (name, none) = match &self.command {
            Command::List { none } => ("list", none),
            Command::Disarm { none } => ("disarm", none),
        };
        if !none.is_empty() {
            return Err(Failure::args(format!("alarm {name} command accepts no arguments")));
        }
        let client = session.connect().await?;
        let response = match self.command {
            Command::List { .. } => list(&client).await?,
            Command::Disarm { .. } => disarm_all(&client).await?,
        };
        show(session.printer.alarms(&response))
    }
}

/// Disarms one alarm after another; the answer has those that were.
async fn disarm_all(client: &Client) -> Result<AlarmResponse> {
    let mut disarmed = AlarmResponse::default();
    for alarm in list(client).await?.alarms {
        if alarm.alarm == i32::from(AlarmType::None) {
            continue;
        }
        let request =
            AlarmRequest { action: AlarmAction::Deactivate.into(), member_id: alarm.member_id, alarm: alarm.alarm };
        disarmed.alarms.extend(client.maintenance().alarm(request).await?.alarms);
    }
    Ok(disarmed)
}
