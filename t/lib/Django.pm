# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The sample project of t/django, served by uWSGI over FastCGI.
#
#     my $django = Django->start;
#     ... SetHandler @{[ $django->handler ]} ...
#
# The project is copied to a temporary directory, its database is made there,
# and the user admin has the password admin.  Options: processes (2),
# uwsgi => [further arguments].
#     address ("127.0.0.1:port"), handler ("fcgi:" before it)
#     log, stop
# Django::missing gives what this machine lacks for it, or the empty string.
package Django;

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use FcgiClient;
use Private;

our @ISA = qw(Private::Server);

my $SAMPLE = abs_path(dirname(__FILE__) . '/../django');
my $PYTHON = '/usr/bin/python3';     # uWSGI's plugin is made for this one
my $UWSGI = '/usr/bin/uwsgi';

sub missing {
    return 'uwsgi' if !-x $UWSGI;
    return 'python3' if !-x $PYTHON;
    my ($status) = Private::run($PYTHON, '-c', 'import django');
    return $status ? 'django' : '';
}

sub start {
    my ($class, %opt) = @_;
    my $self = $class->new('django', processes => 2, uwsgi => [], %opt,
                           port => Private::reserve_port());
    $self->install;
    $self->{pid} = Private::spawn(
        exec => [$self->command], env => $self->environment,
        log => "$self->{dir}/log");
    $self->wait_until_up or die "uwsgi did not start\n" . $self->log;
    return $self;
}

# A copy that www-data can read, with a database that it can write.
sub install {
    my ($self) = @_;
    my $env = $self->environment;
    my ($status, $output) = Private::run(
        'env', (map { "$_=$env->{$_}" } keys %$env), 'sh', '-ec', <<"EOC");
cp -R '$SAMPLE' '$self->{dir}/site'
mkdir '$self->{dir}/data'
cd '$self->{dir}/site'
$PYTHON manage.py migrate --verbosity 0
$PYTHON manage.py createsuperuser --noinput --username admin --email a\@b.cd
test \$(id -u) != 0 || chown -R www-data: '$self->{dir}/data'
EOC
    die "django: $output" if $status;
    return;
}

sub environment {
    my ($self) = @_;
    return {
        SAMPLE_DATABASE => "$self->{dir}/data/db.sqlite3",
        DJANGO_SUPERUSER_PASSWORD => 'admin', PYTHONDONTWRITEBYTECODE => 1,
    };
}

sub command {
    my ($self) = @_;
    return ($UWSGI, '--plugin', 'python3', '--fastcgi-socket',
            $self->address, '--master', '--die-on-term', '--need-app',
            '--processes', $self->{processes}, '--chdir', "$self->{dir}/site",
            '--module', 'sample.wsgi', '--disable-logging',
            $> == 0 ? ('--uid', 'www-data', '--gid', 'www-data') : (),
            @{ $self->{uwsgi} });
}

# Up is when a page came.
sub wait_until_up {
    my ($self) = @_;
    return Private::wait_until(20, sub {
        die $self->log if !Private::alive($self->{pid});
        my $answer = eval {
            FcgiClient::request($self->address, {
                SCRIPT_NAME => '', PATH_INFO => '/', SERVER_NAME => 'x',
                SERVER_PORT => 80, REQUEST_URI => '/' }, '', timeout => 15);
        };
        return $answer && $answer->{complete};
    });
}

sub address { return '127.0.0.1:' . $_[0]{port}->sockport }
sub log     { return Private::slurp("$_[0]{dir}/log") }

1;
