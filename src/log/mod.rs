//! What is written to the main, reject and panic logs, and how.
pub mod debug;
pub mod echo;
pub mod line;
pub mod selector;
pub mod sink;
pub mod syslog;

pub use echo::Echo;
pub use line::{Arrival, Delivery, DeliveryHost, Event, Flag};
pub use selector::{Selector, SelectorError, Selectors};
pub use sink::{Log, LogSettings, Which, parse_log_file_path};
pub use syslog::SyslogSettings;

/// What a panic said, for the panic log.
pub fn panic_text(cause: &(dyn std::any::Any + Send)) -> String {
    match (cause.downcast_ref::<&str>(), cause.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "panic without a text".to_owned(),
    }
}
