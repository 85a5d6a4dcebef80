module github.com/lockgate/lockgate/plugins/doorkeeper-go

go 1.24

require github.com/lockgate/lockgate/guest-sdk/go v0.0.0

replace github.com/lockgate/lockgate/guest-sdk/go => ../../guest-sdk/go
