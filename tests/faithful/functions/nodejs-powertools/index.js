// Uses logger, tracer and metrics of Powertools as middleware, as its documentation does.
import { Logger } from '@aws-lambda-powertools/logger';
import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics';
import { logMetrics } from '@aws-lambda-powertools/metrics/middleware';
import { Tracer } from '@aws-lambda-powertools/tracer';
import { captureLambdaHandler } from '@aws-lambda-powertools/tracer/middleware';
import middy from '@middy/core';

const options = { serviceName: 'payments' };
const logger = new Logger(options);
const tracer = new Tracer(options);
const metrics = new Metrics({ ...options, namespace: 'shop' });

const pay = async (event) => {
  logger.info('paid', { amount: event.amount });
  metrics.addMetric('payments', MetricUnit.Count, 1);
  tracer.putAnnotation('currency', 'EUR');
  if (event.fails) throw new RangeError('no such account');
  return { traceId: tracer.getRootXrayTraceId(), traced: tracer.isTracingEnabled() };
};

export const handler = middy(pay)
  .use(captureLambdaHandler(tracer))
  .use(injectLambdaContext(logger, { clearState: true }))
  .use(logMetrics(metrics, { captureColdStartMetric: true }));
