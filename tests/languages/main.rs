//! Projects in each language, from `lockgate new` to a save while clients are connected, and the pages that lead through
//! it. A test without the tools of its language is shown as ignored; in CI it fails.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails where it stands"
)]

mod bindings;
mod conformance;
mod go;
mod go_probe;
mod javascript;
mod lambda;
mod page;
mod project;
mod rust;

use std::process::ExitCode;

use lockgate_tests::{Lockgate, cases, long, run};

const LOCKGATE: Lockgate =
    Lockgate::new(env!("CARGO_BIN_EXE_lockgate"), env!("CARGO_TARGET_TMPDIR"));

fn main() -> ExitCode {
    let _place = project::Place::take();
    let mut cases = cases![
        rust::saved_change_of_a_new_project_is_served: ;
        rust::new_authorizer_decides_who_may_connect: ;
        rust::new_chat_serves_its_page_and_its_clients: ;
        javascript::saved_change_of_a_new_javascript_project_is_served: Npm;
        javascript::saved_change_of_a_new_typescript_project_is_served: Npm;
        javascript::behaviour::handler_has_the_platform_and_its_errors_name_the_author_s_lines: Npm;
        javascript::behaviour::memory_that_a_handler_leaks_is_given_back_with_its_instance: Npm;
        javascript::builds_of_one_folder_at_the_same_moment_do_not_disturb_each_other: Npm;
        javascript::behaviour::value_made_when_a_module_is_loaded_differs_in_each_instance: Npm;
        javascript::behaviour::module_that_a_plugin_cannot_have_is_named_with_its_import: Npm;
        javascript::behaviour::mistake_in_types_is_said_and_the_plugin_is_built: Npm;
        javascript::new_javascript_authorizer_decides_who_may_connect: Npm;
        javascript::new_typescript_authorizer_decides_who_may_connect: Npm;
        javascript::new_javascript_chat_serves_its_page_and_its_clients: Npm;
        javascript::new_typescript_chat_serves_its_page_and_its_clients: Npm;
        go::saved_change_of_a_new_go_project_is_served: Go;
        go::new_go_projects_are_as_their_language_server_wants_them: Gopls;
        go::new_go_authorizer_decides_who_may_connect: Go;
        go::new_go_chat_serves_its_page_and_its_clients: Go;
        lambda::new_javascript_project_serves_a_table_of_connections: Npm;
        lambda::new_typescript_project_serves_a_table_of_connections: Npm;
        lambda::new_go_project_tells_everyone: Go;
        lambda::authorizer_in_javascript_runs_as_it_is: Npm;
        lambda::authorizer_in_go_runs_as_it_is: Go;
        lambda::tutorial_for_sdk_v2_runs_as_it_is: Npm;
        lambda::function_for_sdk_v3_runs_as_it_is: Npm;
        lambda::callback_style_runs_as_it_is: Npm;
        lambda::middy_with_common_packages_runs_as_it_is: Npm;
        page::lambda_page_runs_as_written: Npm;
        go_probe::go_handler_has_its_environment_and_sends_no_broken_text: Go;
        go_probe::go_handler_refuses_and_fails_as_it_says: Go;
        go_probe::go_authorizer_says_who_a_client_is_or_refuses: Go;
        go_probe::go_handler_renews_what_let_its_client_in: Go;
        go_probe::go_log_lines_have_their_levels: Go;
        go_probe::go_contexts_end_at_the_deadline_and_with_the_event: Go;
        go_probe::go_routines_of_one_event_call_at_the_same_time: Go;
        go_probe::go_plugin_bears_garbage_and_large_messages: Go;
        page::javascript_page_runs_as_written: Npm;
        bindings::generated_bindings_are_those_of_echo_in_c_and_parse_in_go: Go;
        conformance::rust_sdk_passes_every_dialogue: ;
        conformance::typescript_sdk_passes_every_dialogue: Npm;
        conformance::go_sdk_passes_every_dialogue: Go;
        conformance::echo_in_python_passes_every_dialogue: OtherLanguages;
        conformance::echo_in_c_passes_every_dialogue: OtherLanguages;
        page::plugins_page_runs_as_written: ;
        page::testing_page_runs_as_written: ;
        page::go_page_runs_as_written: Go;
        page::client_page_runs_as_written: Node, Chromium;
    ];
    cases.extend(long(cases![
        go_probe::million_calls_of_one_go_instance_need_no_more_memory: Go;
        javascript::behaviour::plugin_of_starlingmonkey_has_its_web_apis: Npm;
        javascript::million::million_calls_of_one_javascript_instance_need_no_more_memory: Npm;
    ]));
    run(LOCKGATE.target(), cases)
}
