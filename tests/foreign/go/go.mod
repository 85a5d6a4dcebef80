module github.com/lockgate/lockgate/tests/foreign/go

go 1.24

require (
	github.com/aws/aws-sdk-go-v2 v1.32.5
	github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi v1.23.4
)

require (
	github.com/aws/aws-sdk-go-v2/internal/configsources v1.3.23 // indirect
	github.com/aws/aws-sdk-go-v2/internal/endpoints/v2 v2.6.23 // indirect
	github.com/aws/smithy-go v1.22.1 // indirect
)
