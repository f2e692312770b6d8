//! All messages: hand-over, queue runs, and the administrator's acts on the queue.
