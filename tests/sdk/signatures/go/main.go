// Calls a function by name and by ARN with the defaults of the SDK for Go.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func main() {
	ctx := context.Background()
	settings, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	identity, err := sts.NewFromConfig(settings).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(*identity.Arn)
	client := lambda.NewFromConfig(settings)
	for _, name := range []string{"hello", "arn:aws:lambda:eu-central-1:000000000000:function:hello"} {
		answer, err := client.Invoke(ctx, &lambda.InvokeInput{
			FunctionName: aws.String(name),
			Qualifier:    aws.String("$LATEST"),
			LogType:      types.LogTypeTail,
			Payload:      []byte(`{"name": "é"}`),
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(answer.Payload))
	}
}
