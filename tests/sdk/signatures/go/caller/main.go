// Says who it is and calls $FUNCTION with the defaults of the SDK for Go; prints what tests/sdk/callers/pods.py reads.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"runtime/debug"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

func main() {
	ctx := context.Background()
	settings, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	said := map[string]any{"version": version()}
	identity, err := sts.NewFromConfig(settings).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		said["identity"] = failed(err)
	} else {
		said["identity"] = identity.Arn
	}
	answer, err := lambda.NewFromConfig(settings).Invoke(ctx, &lambda.InvokeInput{
		FunctionName: aws.String(os.Getenv("FUNCTION")),
		Payload:      []byte(`{"name": "é"}`),
	})
	if err != nil {
		said["answer"] = failed(err)
	} else {
		said["answer"] = json.RawMessage(answer.Payload)
	}
	line, err := json.Marshal(said)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

func failed(err error) map[string]string {
	code := "no code"
	var known smithy.APIError
	if errors.As(err, &known) {
		code = known.ErrorCode()
	}
	return map[string]string{"error": code, "whole": err.Error()}
}

func version() string {
	built, _ := debug.ReadBuildInfo()
	for _, module := range built.Deps {
		if module.Path == "github.com/aws/aws-sdk-go-v2/service/lambda" {
			return module.Version
		}
	}
	return "unknown"
}
