// The AWS SDK for Go (v2) against the connections API: connections-api ENDPOINT ID, where ENDPOINT names the stage and ID an open
// connection. The secret is in the environment, as a backend has it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi/types"
)

const unknown = "AAAAAAAAAAAAAAAA"

type api struct {
	*apigatewaymanagementapi.Client
	ctx context.Context
	id  string
}

func client(endpoint string) *apigatewaymanagementapi.Client {
	return apigatewaymanagementapi.New(apigatewaymanagementapi.Options{
		BaseEndpoint:     &endpoint,
		Region:           os.Getenv("AWS_REGION"),
		RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY")}, nil
		}),
	})
}

func (a api) post(id string, data []byte) error {
	_, err := a.PostToConnection(a.ctx, &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &id, Data: data})
	return err
}

func (a api) get(id string) (*apigatewaymanagementapi.GetConnectionOutput, error) {
	return a.GetConnection(a.ctx, &apigatewaymanagementapi.GetConnectionInput{ConnectionId: &id})
}

// is checks that an error is one of a type of the SDK's model.
func is[T error](err error) error {
	var wanted T
	if errors.As(err, &wanted) {
		return nil
	}
	return fmt.Errorf("%T is expected, and %v came", wanted, err)
}

func (a api) posts() error {
	return errors.Join(a.post(a.id, []byte("from the SDK for Go")), a.post(a.id, []byte{0, 255}))
}

func (a api) describes() error {
	got, err := a.get(a.id)
	if err != nil {
		return err
	}
	if got.Identity == nil || aws.ToString(got.Identity.SourceIp) != "127.0.0.1" {
		return fmt.Errorf("the identity is %+v", got.Identity)
	}
	for _, at := range []*time.Time{got.ConnectedAt, got.LastActiveAt} {
		if at == nil || time.Since(*at).Abs() > 5*time.Minute {
			return fmt.Errorf("a time is %v", at)
		}
	}
	return nil
}

func (a api) returnsTheErrorsOfTheModel(endpoint string) error {
	_, gone := a.get(unknown)
	large := a.post(a.id, []byte(strings.Repeat("x", 64<<10+1)))
	elsewhere := api{client(endpoint + "x"), a.ctx, a.id}
	_, forbidden := elsewhere.get(a.id)
	return errors.Join(
		is[*types.GoneException](a.post(unknown, []byte("x"))),
		is[*types.GoneException](gone),
		is[*types.PayloadTooLargeException](large),
		is[*types.ForbiddenException](forbidden),
	)
}

func (a api) deletes() error {
	if _, err := a.DeleteConnection(a.ctx, &apigatewaymanagementapi.DeleteConnectionInput{ConnectionId: &a.id}); err != nil {
		return err
	}
	_, err := a.get(a.id)
	return is[*types.GoneException](err)
}

func main() {
	endpoint, id := os.Args[1], os.Args[2]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a := api{client(endpoint), ctx, id}
	for _, test := range []struct {
		name string
		run  func() error
	}{
		{"posts", a.posts},
		{"describes", a.describes},
		{"returns the errors of the model", func() error { return a.returnsTheErrorsOfTheModel(endpoint) }},
		{"deletes", a.deletes},
	} {
		if err := test.run(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", test.name, err)
			os.Exit(1)
		}
		fmt.Println("ok", test.name)
	}
}
