module github.com/lockgate/lockgate/guest-sdk/go

go 1.24
