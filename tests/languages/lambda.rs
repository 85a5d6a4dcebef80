//! Handlers written for AWS Lambda: a new project, and code that runs as it is.

use std::{fs, path::Path};

use lockgate_tests::{Client, Gateway};
use serde_json::{Value, json};

use crate::project::Project;

/// The projects of unmodified handlers.
const PROJECTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../guest-sdk/js/lambda/tests/projects"
);

pub(crate) async fn new_javascript_project_serves_a_table_of_connections() {
    new_project_serves_a_table_of_connections("js").await;
}

pub(crate) async fn new_typescript_project_serves_a_table_of_connections() {
    let project = new_project_serves_a_table_of_connections("ts").await;
    project.check(&[&["npm", "run", "check"]]).await;
}

pub(crate) async fn new_go_project_tells_everyone() {
    let project = Project::new("go", "lambda").await;
    // The folder is that of the command.
    let tested = project.lockgate(&["test"]).await;
    assert_eq!(tested.code, Some(0), "{}{}", tested.output, tested.error);
    let checks: [&[&str]; 2] = [&["go", "vet", "./..."], &["go", "test", "./..."]];
    project.check(&checks).await;
}

pub(crate) async fn authorizer_in_javascript_runs_as_it_is() {
    let project = Project::named("lambda-js-authorizer", "js", "lambda").await;
    let authorizer = r#"
exports.handler = async (event) => {
  const { token } = event.queryStringParameters;
  if (token === undefined) throw new Error("Unauthorized");
  const Effect = token === "swordfish" ? "Allow" : "Deny";
  const statement = { Action: "execute-api:Invoke", Effect, Resource: event.methodArn };
  return { principalId: "ada", policyDocument: { Version: "2012-10-17", Statement: [statement] }, context: { plan: "gold" } };
};
"#;
    let handler = r#"
exports.handler = async ({ requestContext: { authorizer }, body }) =>
  ({ statusCode: 200, body: body === "nothing" ? "" : `${authorizer.principalId} ${authorizer.plan}` });
"#;
    project.save("src/authorizer.js", authorizer);
    project.save("src/default.js", handler);
    let manifest = project.read("package.json");
    let lambda = "\"lockgate\": {";
    let both = format!("{lambda}\n    \"lambdaAuthorizer\": \"src/authorizer.handler\",");
    project.save("package.json", &manifest.replacen(lambda, &both, 1));
    lambda_authorizer_decides(&project, "lambda-js-authorizer").await;
}

pub(crate) async fn authorizer_in_go_runs_as_it_is() {
    let project = Project::named("lambda-go-authorizer", "go", "lambda").await;
    let main = r#"package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-lambda-go/events"
	"github.com/lockgate/lockgate/guest-sdk/go/lambda"
)

func authorize(_ context.Context, request events.APIGatewayCustomAuthorizerRequestTypeRequest) (events.APIGatewayCustomAuthorizerResponse, error) {
	var response events.APIGatewayCustomAuthorizerResponse
	token, ok := request.QueryStringParameters["token"]
	if !ok {
		return response, errors.New("Unauthorized")
	}
	effect := "Deny"
	if token == "swordfish" {
		effect = "Allow"
	}
	response.PrincipalID = "ada"
	response.Context = map[string]any{"plan": "gold"}
	response.PolicyDocument = events.APIGatewayCustomAuthorizerPolicy{
		Version:   "2012-10-17",
		Statement: []events.IAMPolicyStatement{{Action: []string{"execute-api:Invoke"}, Effect: effect, Resource: []string{request.MethodArn}}},
	}
	return response, nil
}

func handle(_ context.Context, request events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	if request.Body == "nothing" {
		return events.APIGatewayProxyResponse{StatusCode: 200}, nil
	}
	authorizer, _ := request.RequestContext.Authorizer.(map[string]any)
	return events.APIGatewayProxyResponse{StatusCode: 200, Body: fmt.Sprint(authorizer["principalId"], " ", authorizer["plan"])}, nil
}

func main() {
	lambda.StartAuthorizer(authorize)
	lambda.Start(handle)
}
"#;
    project.save("main.go", main);
    let events = "github.com/aws/aws-lambda-go/events@v1.47.0";
    project.check(&[&["go", "get", events]]).await;
    lambda_authorizer_decides(&project, "lambda-go-authorizer").await;
}

/// Runs a dialogue against a project whose Lambda authorizer lets in who has the token `swordfish`, and whose handler answers
/// `nothing` with an empty body, which is an empty text in each language.
async fn lambda_authorizer_decides(project: &Project, name: &str) {
    let configuration = project.read("gateway.toml");
    let stage = format!("[apis.{name}.stages.dev]\n");
    let guarded = format!("{stage}authorizer = \"users\"\n");
    let named = configuration.replacen(&stage, &guarded, 1);
    let configuration = format!("{named}\n[authorizers.users]\nplugin = {name:?}\n");
    project.save("gateway.toml", &configuration);
    let dialogue = "
ada connects ?token=swordfish
ada sends who am I?
ada gets ada gold
ada sends nothing
ada gets text \"\"
bob connects
bob is refused with 401
eve connects ?token=marlin
eve is refused with 403
";
    project.save("tests/chat.dialogue", dialogue);
    let tested = project.lockgate(&["test", "."]).await;
    assert_eq!(tested.code, Some(0), "{}{}", tested.output, tested.error);
}

async fn new_project_serves_a_table_of_connections(language: &str) -> Project {
    let project = Project::new(language, "lambda").await;
    let tested = project.lockgate(&["test", "."]).await;
    assert_eq!(tested.code, Some(0), "{}{}", tested.output, tested.error);
    let gateway = project.dev("gateway.toml").await;
    let mut ann = gateway.connect("/dev?name=ann").await;
    let mut bob = gateway.connect("/dev?name=bob").await;
    let guest = gateway.connect("/dev").await;
    guest.close(1000, "").await;
    ann.send(r#"{"action":"sendmessage","data":"hello"}"#).await;
    assert_eq!(bob.json().await, json!({"from": "ann", "data": "hello"}));
    ann.send("hello?").await;
    let told = ann.json().await;
    assert!(told["error"].as_str().unwrap().contains("hello?"), "{told}");
    drop(gateway);
    project
}

/// The chat of the AWS guide, as it was written for the AWS SDK v2: a file a route, in CommonJS.
pub(crate) async fn tutorial_for_sdk_v2_runs_as_it_is() {
    let routes = &["sendmessage", "sendto"];
    let environment = "environment = { table = \"connections\" }";
    let (_project, gateway) = serve("tutorial-v2", false, routes, environment).await;
    let mut ann = gateway.connect("/prod").await;
    let mut bob = gateway.connect("/prod").await;
    let mut cleo = gateway.connect("/prod").await;

    let info = own_info(&mut bob).await;
    assert_eq!(info["Identity"]["SourceIp"], "127.0.0.1");
    let bobs_id = info["connectionID"].as_str().unwrap();

    send(
        &mut ann,
        &json!({"action": "sendmessage", "message": "to all"}),
    )
    .await;
    bob.expect("to all").await;
    cleo.expect("to all").await;

    let to_bob = json!({"action": "sendto", "to": bobs_id, "message": "to one"});
    send(&mut ann, &to_bob).await;
    bob.expect("to one").await;
    bob.close(1000, "").await;
    send(&mut ann, &to_bob).await;
    assert_eq!(
        ann.json().await,
        json!({"gone": bobs_id, "code": "GoneException"})
    );
    send(
        &mut ann,
        &json!({"action": "sendmessage", "message": "to the rest"}),
    )
    .await;
    cleo.expect("to the rest").await;
}

/// One CommonJS function for every route, with the AWS SDK v3.
pub(crate) async fn function_for_sdk_v3_runs_as_it_is() {
    let routes = ["broadcast", "whoami", "kick", "fail", "malformed"];
    let environment = "environment = { TABLE_NAME = \"connections\", AWS_REGION = \"eu-west-1\" }";
    let (_project, gateway) = serve("tutorial-v3", true, &routes, environment).await;

    let refused = gateway
        .ws("/prod")
        .header("Authorization", "wrong")
        .refused()
        .await;
    assert_eq!(refused.status, 401);
    assert!(
        refused.text().contains("Unauthorized"),
        "{}",
        refused.text()
    );

    let offering = gateway
        .ws("/prod?name=ann")
        .header("Sec-WebSocket-Protocol", "one, two");
    let mut ann = offering.header("User-Agent", "test/1").open().await;
    assert_eq!(ann.answer().header("Sec-WebSocket-Protocol"), Some("one"));
    let mut bob = gateway.connect("/prod?name=bob").await;

    send(&mut ann, &json!({"action": "broadcast", "message": "hi"})).await;
    assert_eq!(bob.json().await, json!({"to": "bob", "message": "hi"}));
    // The reply of a two-way route without a body is none.
    send(&mut ann, &json!({"action": "whoami"})).await;
    assert_eq!(
        ann.json().await,
        json!({"Identity": {"SourceIp": "127.0.0.1", "UserAgent": "test/1"}, "messageId": true, "stage": "prod"})
    );
    send(&mut ann, &json!({"action": "kick", "id": "nobody"})).await;
    ann.expect("GoneException 410").await;
    for action in ["fail", "malformed"] {
        send(&mut ann, &json!({"action": action})).await;
        ann.expect_error("Internal server error").await;
    }
    let line = gateway.log().line(&["the handler failed", "as told"]).await;
    assert!(line.contains("src/app.js:"), "{line}");
    gateway
        .log()
        .line(&["malformed Lambda proxy response"])
        .await;

    ann.send("no JSON").await;
    ann.expect("no JSON").await;
    ann.send_binary(vec![0, 255]).await;
    assert_eq!(ann.binary().await, vec![0, 255]);

    bob.close(4001, "done").await;
    assert_eq!(
        ann.json().await,
        json!({"to": "ann", "message": {"left": 4001}})
    );
}

/// The callback and the context, with the AWS SDK v2 by callbacks.
pub(crate) async fn callback_style_runs_as_it_is() {
    let (_project, gateway) = serve("callbacks", true, &[], "").await;
    let mut client = gateway.connect("/prod").await;
    for (action, answers) in [
        ("callback", &["by callback"][..]),
        ("succeed", &["by succeed"]),
        ("post", &["posted", "after the post"]),
        ("gone", &["GoneException 410"]),
        ("nothing", &[]),
    ] {
        send(&mut client, &json!({"action": action})).await;
        for answer in answers {
            client.expect(answer).await;
        }
    }
    send(&mut client, &json!({"action": "error"})).await;
    client.expect_error("Internal server error").await;
    gateway.log().line(&["an error as a text"]).await;
}

/// Middy in TypeScript, with packages that many projects have.
pub(crate) async fn middy_with_common_packages_runs_as_it_is() {
    let environment = "environment = { AWS_REGION = \"eu-west-1\" }";
    let (_project, gateway) = serve("middy", true, &[], environment).await;
    let refused = gateway
        .ws("/prod")
        .header("Authorization", "wrong")
        .refused()
        .await;
    assert_eq!(refused.status, 403);
    assert!(
        refused.text().contains("not with this token"),
        "{}",
        refused.text()
    );

    let mut client = gateway.connect("/prod").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        client
            .send(r#"{"to":["nobody","no one"],"text":"hi"}"#)
            .await;
        let told = client.json().await;
        assert_eq!(told["results"], json!(["GoneException", "GoneException"]));
        assert_eq!(told["region"], "eu-west-1");
        assert_eq!(told["ids"]["named"], "06dfea2b-3e6a-552f-a2d9-c0f2e001f645");
        ids.push((told["ids"]["nano"].clone(), told["ids"]["random"].clone()));
    }
    assert_ne!(ids[0].0, ids[1].0);
    assert_ne!(ids[0].1, ids[1].1);
    // The error handler of the middleware answers for a mistake.
    client.send("no JSON").await;
    client.expect("no idea").await;
}

/// Serves a project of [`PROJECTS`] at `/prod`, with more routes and lines of the plugin's table.
async fn serve(name: &str, two_way: bool, routes: &[&str], plugin: &str) -> (Project, Gateway) {
    let project = Project::named(&format!("lambda-{name}"), "js", "lambda").await;
    fs::remove_dir_all(project.folder.join("src")).unwrap();
    copy(&Path::new(PROJECTS).join(name), &project.folder);
    let routes = routes
        .iter()
        .map(|key| format!("{key} = {{ integration = \"plugin\", two_way = {two_way} }}\n"));
    let routes: String = routes.collect();
    let configuration = format!(
        r#"
[[listeners]]
address = "127.0.0.1:0"

[apis.chat]
route_selection_expression = "$request.body.action"

[apis.chat.stages.prod]

[apis.chat.routes]
"$connect" = {{ integration = "plugin" }}
"$disconnect" = {{ integration = "plugin" }}
"$default" = {{ integration = "plugin", two_way = {two_way} }}
{routes}

[plugins.plugin]
source = "."
grants = ["connections", "groups"]
limits = {{ cpu_ms = 2000, deadline_ms = 10000 }}
{plugin}
"#
    );
    fs::write(project.folder.join("gateway.toml"), configuration).unwrap();
    let gateway = project.dev("gateway.toml").await;
    (project, gateway)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_name() == "node_modules" {
            continue;
        }
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn send(client: &mut Client, message: &Value) {
    client.send(message.to_string()).await;
}

/// What the default handler of the guide's chat tells a client of itself.
async fn own_info(client: &mut Client) -> Value {
    client.send("hello").await;
    let told = client.text().await;
    let (_, info) = told.split_once("Your info:").unwrap();
    serde_json::from_str(info).unwrap()
}
